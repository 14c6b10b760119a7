"""What only the developer knows: which objects were renamed, and which values existing rows get.

The modules here find the questions, read the answers, and change the operations accordingly. The command line asks the
questions.
"""
