"""Values and rules that need no other folder: messages, codec, settings, errors, records."""
