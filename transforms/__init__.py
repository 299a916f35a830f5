"""The stages of the job: pure functions first, the Beam transform that carries them last."""
