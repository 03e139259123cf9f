package io.github.keyfence.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.net.InetAddress;
import java.net.UnknownHostException;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

final class AddressesTest {
  @ParameterizedTest
  @ValueSource(
      strings = {
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "1::",
        "2001:db8::1:0:0:1",
        "1:2:3:4:5:6:7:8",
        "::ffff:10.0.0.1",
        "1:2:3:4:5:6:1.2.3.4",
        "FE80::ABCD"
      })
  void anAddressIsReadAsJavaReadsIt(String text) throws UnknownHostException {
    assertArrayEquals(InetAddress.getByName(text).getAddress(), Addresses.parse(text));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.04",
        "1.2.3.4:80",
        " 1.2.3.4",
        "1.2.3.-4",
        ":",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "12345::",
        "g::",
        "::1%eth0",
        "1.2.3.4::",
        "::1.2.3",
        "[::1]",
        "1:2:3:4:5:6:7::8",
        "٤.1.1.1"
      })
  void anotherTextIsNone(String text) {
    assertNull(Addresses.parse(text));
  }

  @ParameterizedTest
  @CsvSource({
    "10.0.0.0/8, 10.255.0.1, true",
    "10.0.0.0/8, 11.0.0.1, false",
    "192.0.2.0/25, 192.0.2.127, true",
    "192.0.2.0/25, 192.0.2.128, false",
    "0.0.0.0/0, 1.2.3.4, true",
    "0.0.0.0/0, ::1, false",
    "::/0, 1.2.3.4, false",
    "2001:db8::/33, 2001:db8:7fff::1, true",
    "2001:db8::/33, 2001:db8:8000::1, false",
    "192.0.2.7, 192.0.2.7, true",
    "192.0.2.7/32, 192.0.2.6, false",
  })
  void aNetworkHasItsAddresses(String network, String address, boolean expected) {
    Addresses.Network read = Addresses.parseNetwork(network);
    assertNotNull(read);
    assertEquals(expected, read.contains(Addresses.parse(address)));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/08", "x/8", "::/129"})
  void anotherTextIsNoNetwork(String text) {
    assertNull(Addresses.parseNetwork(text));
  }
}
