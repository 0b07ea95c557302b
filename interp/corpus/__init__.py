"""What a component does on real text: a corpus is run once, and of every head, neuron and latent is
kept what its page shows."""
