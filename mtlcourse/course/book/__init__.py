"""The course as a book: a static site that needs no network. Made by `make book` from what `make course` has run."""
