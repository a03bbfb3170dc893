"""The notebooks as a course: running and comparing them, the book, stored results, exercises, sliders, the doctor.

All that only the course needs. `lessons`, `outputs`, `parameters`, `running` and `doctor` import nothing of the core
package but the wording of `files.unknown`, so that they run, and report, on a machine where torch does not import;
this file imports nothing. Files here may import one another.
"""
