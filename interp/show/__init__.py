"""Results as people look at them: in a terminal, and as pages that need nothing but themselves."""
