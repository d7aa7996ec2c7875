"""From a spec to rows on disk: what is asked for, resolved, planned, read, explained, scored."""
