"""Values and rules that know no other folder: messages, codec, settings, errors, records."""
