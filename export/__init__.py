"""A Hugging Face checkpoint in, a bundle out."""
