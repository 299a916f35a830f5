"""Records, tables and configuration: what the stages hand to each other and what the job writes."""
