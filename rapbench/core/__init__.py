"""What everything else is said in: values, protocols, errors, catalogues, seeds. Imports nothing of ours."""
