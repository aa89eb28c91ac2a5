return admit(1, 1)
