-- Mosaic answered 429: no process calls for this application for a while. When Mosaic answered
-- another application so just now, it is about our address, and no process calls at all.
-- KEYS: the application's pause, the address' pause, the application answered so last, how often.
-- ARGV: the application, seconds Mosaic asks for or -1 (microseconds), at most, a random number.
-- Returns the pause (microseconds).

local now = clock()
local running = ahead(redis.call("GET", KEYS[1]), now, LONGEST_PAUSE)
local lasts = tonumber(ARGV[2])
if lasts < 0 and running > 0 then
  -- It was under way when the pause began. Did it count, the eight calls of one worker would make
  -- the first pause the longest there is.
  lasts = running
elseif lasts < 0 then
  local times = redis.call("INCR", KEYS[4])
  lasts = math.min(tonumber(ARGV[3]), 1000000 * 2 ^ (times - 1)) * (0.5 + ARGV[4] / 2)
  redis.call("PEXPIRE", KEYS[4], math.ceil(lasts / 1000) + 60000)
end
lasts = math.max(lasts, 100000)

local function pause(key)
  local left = math.max(ahead(redis.call("GET", key), now, LONGEST_PAUSE), lasts)
  redis.call("SET", key, text(now + left), "PX", math.ceil(left / 1000))
end

pause(KEYS[1])
local limited_last = redis.call("GET", KEYS[3])
if limited_last and limited_last ~= ARGV[1] then pause(KEYS[2]) end
redis.call("SET", KEYS[3], ARGV[1], "PX", math.ceil(lasts / 1000))
return lasts
