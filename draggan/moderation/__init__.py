"""Which pictures may come in and go out: one entry point (`check.Moderation`), which fails closed.

It is asked when a picture is uploaded and when one is saved, never in between. What looks at pictures is a
`verdict.Moderator`; what it is not sure of waits for a person (`review`).
"""
