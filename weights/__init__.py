"""Files to parameters and back: checkpoints by name, folder or file, and the models embedded here."""
