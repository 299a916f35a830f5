"""The experts of the perceiving half, each behind one model handler for RunInference."""
