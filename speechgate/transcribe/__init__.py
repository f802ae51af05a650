"""Transcription: from recordings of any length and format to text with times."""
