"""Running a model again after a patch, computing only what the patch reaches and what is asked
for."""
