"""What a component stands for, in a sentence that predicts: explanations that cost nothing, or a
language model's; scored on documents that they were not made of, beside baselines."""
