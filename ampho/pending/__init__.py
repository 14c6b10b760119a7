"""The pending page, which answers requests in debug mode while a database does not match the code.

``report`` finds out what is wrong and what can be done, ``watch`` decides when to look again, ``guard`` decides who may
press the buttons, and ``answers`` writes the page. ``sync`` and ``aio`` connect them to Flask and Quart. All of this is
only imported when an app has the page.
"""
