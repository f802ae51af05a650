"""Which modules each task and language uses: masks from decoded utterances, statistics, heat maps."""
