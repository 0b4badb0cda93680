"""The reports on a period, and the form that all of draftd's reports share.

document    the HTML document that reports extend: no script, nothing loaded, everything escaped
reading     reads a period from the database, in a few statements
figures     what is counted and compared
intervals   shares with their confidence intervals
plots       the geometry of the plots
page        a report on a period as one HTML file
sql/        the statements of reading
"""
