-- As whom this session works, and on which database.
SELECT current_user, current_database()
