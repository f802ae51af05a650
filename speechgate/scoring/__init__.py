"""Scores of decoded utterances: word and character errors, BLEU and chrF, with bootstrap intervals."""
