-- Times are microseconds of Redis' own clock: exact in a double until the year 2255.

local LONGEST_PAUSE = 3600000000  -- `MAX_RETRY_AFTER_SECONDS`: Mosaic is obeyed for no longer

local function clock()
  local time = redis.call("TIME")
  return time[1] * 1000000 + time[2]
end

local function number(value)
  return tonumber(value or 0)
end

-- How far ahead a moment that is kept lies; 0 once it is past. None is kept farther ahead than `longest`:
-- one that seems so was written before the clock was set back, or by the Redis that failed over to this
-- one. Believed, it would keep calls from Mosaic for as long as the clocks are apart.
local function ahead(moment, now, longest)
  local left = number(moment) - now
  return left > 0 and left <= longest and left or 0
end

local function text(moment)
  return string.format("%.0f", moment)
end
