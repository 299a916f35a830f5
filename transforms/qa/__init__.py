"""The question language: from a row of `scenes` to questions and answers. Neither Beam nor torch."""
