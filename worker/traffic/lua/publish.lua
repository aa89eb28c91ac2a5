-- Publish the answer of the request that leads, and wake all that wait for it.
-- KEYS: answer, lease. ARGV: token, answer, its life (ms).
-- A list, since BLMOVE from it to itself wakes every waiter with one push.

if redis.call("GET", KEYS[2]) ~= ARGV[1] then return 0 end  -- our lease ended: another one leads
redis.call("DEL", KEYS[1], KEYS[2])
redis.call("RPUSH", KEYS[1], ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return 1
