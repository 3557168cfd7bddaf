"""The widgets, one per file: each shows a view model and knows nothing of files, databases or clocks."""
