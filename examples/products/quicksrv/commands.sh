# A key, as the panel makes it.
CREATED=$(curl -sS "$URL/panel/api-keys" -H "Cookie: panel_session=$PANEL_SESSION" \
  -H "Content-Type: application/json" -d '{"name": "monitoring", "scopes": ["vps:read"]}')
KEY=$(jq -r .key <<<"$CREATED")

# The page's three commands.
curl "$URL/api/v1/instances" \
-H "Authorization: Bearer $KEY"
curl "$URL/api/v1/instances" \
-H "X-API-Key: $KEY"
curl "$URL/api/v1/whoami" \
-H "Authorization: Bearer $KEY"

# A write endpoint names the missing scope. Revoked in the panel, the key gets 401.
curl -sS "$URL/api/v1/instances" -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" -d '{"plan": "s", "name": "web"}'
curl -sS -X DELETE "$URL/panel/api-keys/$(jq -r .id <<<"$CREATED")" \
  -H "Cookie: panel_session=$PANEL_SESSION"
curl "$URL/api/v1/instances" -H "Authorization: Bearer $KEY"
