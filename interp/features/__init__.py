"""Feature graphs: which latents make which latents, and the answer, on one prompt; each edge by its
exact effect, beside what the field's linear convention makes of it."""
