"""How the embedded models were made. Not part of the library: may import all of it, and takes
gradients."""
