"""Text: normalisation for training and for scoring, and the tokenizer with its prompt symbols."""
