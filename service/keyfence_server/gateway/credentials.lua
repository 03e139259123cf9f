-- Refuses a request with more than one credential, wherever they are, equal or not:
-- something on its way may have looked at another than the one that Keyfence gets to see.
--
-- COOKIE, the name of the cookie that may carry one, stands above; nil for none.

-- Envoy keeps some headers that come several times apart, and joins others by commas,
-- which no credential has.
local function count_header(headers, name)
  local count = headers:getNumValues(name)
  for index = 0, count - 1 do
    local _, commas = string.gsub(headers:getAtIndex(name, index), ",", "")
    count = count + commas
  end
  return count
end

local function count_cookies(headers)
  local count = 0
  for index = 0, headers:getNumValues("cookie") - 1 do
    for name in string.gmatch(headers:getAtIndex("cookie", index), "([^;,=]*)=[^;,]*") do
      if string.match(name, "^%s*(.-)%s*$") == COOKIE then
        count = count + 1
      end
    end
  end
  return count
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local count = count_header(headers, "authorization") + count_header(headers, "x-api-key")
  if COOKIE then
    count = count + count_cookies(headers)
  end
  if count > 1 then
    handle:respond({[":status"] = "400"}, "send one credential")
  end
end
