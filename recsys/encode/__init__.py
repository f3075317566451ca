"""From ids and descriptions to indices and features. What a network makes of them belongs in models."""
