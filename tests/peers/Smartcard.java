// SPDX-License-Identifier: LGPL-2.1-or-later
// java Smartcard.java PROTOCOL: a card by javax.smartcardio, which finds libpcsclite by the property
// sun.security.smartcardio.library. "direct" is DIRECT and RAW.
import javax.smartcardio.Card;
import javax.smartcardio.CardException;
import javax.smartcardio.CardTerminal;
import javax.smartcardio.CommandAPDU;
import javax.smartcardio.ResponseAPDU;
import javax.smartcardio.TerminalFactory;
import java.util.HexFormat;

public class Smartcard {
    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    private static void use(Card card) throws CardException {
        System.out.println(card.getProtocol() + " " + hex(card.getATR().getBytes()));
        card.beginExclusive();
        byte[] aid = HexFormat.of().parseHex("a0000000790300");
        ResponseAPDU answer =
            card.getBasicChannel().transmit(new CommandAPDU(0, 0xA4, 4, 0, aid));
        System.out.println(Integer.toHexString(answer.getSW()) + " " + hex(answer.getData()));
        card.endExclusive();
    }

    public static void main(String[] words) throws CardException {
        for (CardTerminal terminal : TerminalFactory.getDefault().terminals().list()) {
            System.out.println(terminal.getName() + " " + terminal.isCardPresent());
            Card card = terminal.connect(words[0]);
            if (!words[0].equals("direct"))
                use(card);
            System.out.println(hex(card.transmitControlCommand(0x42000D48, new byte[0])));
            card.disconnect(false);
            terminal.connect("T=0").disconnect(true);
            System.out.println(terminal.waitForCardPresent(100) + " "
                + terminal.waitForCardAbsent(200));
        }
    }
}
