-- Times are microseconds of Redis' own clock: exact in a double until the year 2255.

local function clock()
  local time = redis.call("TIME")
  return time[1] * 1000000 + time[2]
end

local function number(value)
  return tonumber(value or 0)
end

local function text(moment)
  return string.format("%.0f", moment)
end
