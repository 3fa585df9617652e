"""Recorded sessions as messages: raw bytes, pcap and pcapng."""
