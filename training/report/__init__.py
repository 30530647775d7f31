"""The report of a run: its records, sections of figures and plots, and the files made of them."""
