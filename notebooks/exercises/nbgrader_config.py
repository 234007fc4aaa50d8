"""nbgrader's settings for the exercises. `make exercises` copies this file into the course folder."""
c = get_config()  # noqa: F821 - nbgrader defines it

c.CourseDirectory.course_id = "reverse_distillation"
# A cell may train a model, on a slow machine beside other work. What takes longer is an endless loop.
c.ExecutePreprocessor.timeout = 600
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"
# Files named by a learning platform: ada_ex1_metrics.ipynb was handed in by ada.
c.FileNameCollectorPlugin.named_regexp = r".*[/\\](?P<student_id>[^/\\]+)_(?P<file_id>ex\d_\w+)\.ipynb"
