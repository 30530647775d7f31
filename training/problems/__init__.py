"""Problems with checkable answers: where they come from, and which may be used."""
