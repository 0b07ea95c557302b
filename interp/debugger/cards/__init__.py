"""The cards of the debugger's page, one a file. Each shows one result; none computes anything."""
