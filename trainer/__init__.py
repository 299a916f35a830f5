"""The trainer: a job over the tables of finished runs that teaches a vision-language model metric space."""
