"""speechgate: multilingual ASR and ST models that run only the modules a task needs."""
