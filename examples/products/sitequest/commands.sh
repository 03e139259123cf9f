# A key, as the dashboard makes it: "Read only".
CREATED=$(curl -sS "$URL/dashboard/api-keys" -H "Cookie: panel_session=$PANEL_SESSION" \
  -H "Content-Type: application/json" -d '{"name": "CI/CD", "preset": "read-only"}')
KEY=$(jq -r .key <<<"$CREATED")

# With the headers of the rate limit.
curl -sS -i "$URL/v1/servers" -H "Authorization: Bearer $KEY"
# INSUFFICIENT_SCOPE, and UNAUTHORIZED for a key that was revoked in the dashboard.
curl -sS "$URL/v1/servers/reboot" -X POST -H "Authorization: Bearer $KEY"
curl -sS -X DELETE "$URL/dashboard/api-keys/$(jq -r .id <<<"$CREATED")" \
  -H "Cookie: panel_session=$PANEL_SESSION"
curl -sS "$URL/v1/servers" -H "Authorization: Bearer $KEY"
