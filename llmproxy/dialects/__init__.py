"""Wire vocabularies: frames and dicts to meaning and back, without I/O."""
