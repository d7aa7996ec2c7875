"""From a spec to rows on disk."""
