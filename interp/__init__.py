"""Questions asked of a run: what pushes the output where, what a head looks at, what an
intervention would change."""
