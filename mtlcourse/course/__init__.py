"""The notebooks as a course: what they are, running them headlessly, comparing and showing what came out.

Stands beside the core package and imports nothing of it but the wording of `files.unknown`, so that
it runs, and reports, on a machine where torch does not import. Files here may import one another.
"""
