-- Refuses a request whose headers Keyfence, or a program on the way, could read differently:
--
-- More than one credential, in any places, equal or not. A program on the way may have looked
-- at another one than Keyfence does.
--
-- A malformed header of gRPC. Keyfence would answer with an internal error, and gRPC would
-- remember the header in the connection's header table, which other callers share.
--
-- It also tells Keyfence the client's address, in "x-forwarded-for", by itself and without a port.
-- That is the other end of the connection, or what trusted proxies have written into that header.
-- Some of them write a port, which Envoy cannot read.
--
-- Defined above this text: COOKIE, the cookie that may carry a credential, or nil; PROXIES, how
-- many trusted proxies there are.

local ENCODINGS = {identity = true, deflate = true, gzip = true}

-- gRPC's headers that a client may send, and whether a value is well-formed.
local GRPC = {
  ["grpc-timeout"] = function(value) return #value <= 9 and string.find(value, "^%d+[HMSmun]$") end,
  ["grpc-encoding"] = function(value) return ENCODINGS[value] end,
  ["grpc-accept-encoding"] = function(value) return string.find(value, "^[%w, -]*$") end,
  ["grpc-previous-rpc-attempts"] = function(value) return string.find(value, "^%d%d?%d?$") end,
}

-- Base64's last character, by the length of an incomplete group of four: the bits that
-- carry no data are zero.
local LAST = {[0] = "", [2] = "[AQgw]", [3] = "[AEIMQUYcgkosw048]"}

local function is_base64(value)
  local body, padding = string.match(value, "^([%w+/]*)(=*)$")
  local last = body and LAST[#body % 4]
  if not last or not string.find(body, last .. "$") then
    return false
  end
  return padding == "" or (#padding <= 2 and (#body + #padding) % 4 == 0)
end

-- Envoy keeps some repeated headers apart and joins others with commas. No credential has a comma.
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

local function count_credentials(headers)
  local count = count_header(headers, "authorization") + count_header(headers, "x-api-key")
  return COOKIE and count + count_cookies(headers) or count
end

local function malformed_grpc_header(headers)
  local seen = {}
  for name, value in pairs(headers) do
    if string.find(name, "-bin$") then
      -- "lb-cost-bin" is for gRPC's own load balancers, and has a form of its own.
      if name == "lb-cost-bin" or not is_base64(value) then
        return name
      end
    elseif string.find(name, "^grpc-") then
      local is_well_formed = GRPC[name]
      if seen[name] or not is_well_formed or not is_well_formed(value) then
        return name
      end
      seen[name] = true
    end
  end
end

local function without_port(text)
  return string.match(text, "^([%d.]+):%d+$") or string.match(text, "^%[([%x:.]+)%]")
end

local function client_address(headers, connected)
  local entries = {}
  for index = 0, headers:getNumValues("x-forwarded-for") - 1 do
    for entry in string.gmatch(headers:getAtIndex("x-forwarded-for", index), "[^,%s]+") do
      table.insert(entries, entry)
    end
  end
  -- The last entry is Envoy's own.
  local entry = PROXIES > 0 and entries[#entries - PROXIES] or connected
  local address = without_port(entry) or string.match(entry, "^[%x:.]+$")
  return address or without_port(connected)
end

local function check(headers, connected)
  if count_credentials(headers) > 1 then
    return "send one credential"
  end
  local malformed = malformed_grpc_header(headers)
  if malformed then
    return "the header " .. (#malformed <= 26 and malformed or "of gRPC") .. " is malformed"
  end
  headers:replace("x-forwarded-for", client_address(headers, connected))
end

function envoy_on_request(handle)
  local connected = handle:streamInfo():downstreamDirectRemoteAddress()
  -- Envoy goes on with a request when its script fails.
  local good, problem = pcall(check, handle:headers(), connected)
  if not good then
    handle:respond({[":status"] = "400"}, "the headers cannot be read")
  elseif problem then
    handle:respond({[":status"] = "400"}, problem)
  end
end
