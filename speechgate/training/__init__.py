"""Training with Lightning: the objective, its schedules, and the run that ties them to files."""
