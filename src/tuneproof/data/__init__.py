"""From a source of records to text files and token ids."""
