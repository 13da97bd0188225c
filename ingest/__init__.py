"""From a dump to a corpus: downloads, splits, pages, tokens, shards, vocabulary."""
