"""What uses up a proof: logins, steps before them, and refresh tokens.

Each call is written in the journal before it is sent, and is sent once.
"""
