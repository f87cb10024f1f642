// Raise all prices of a user by some percent: ACME_KEY=acme_… node raise.js 5
import process from "node:process"
import { Acme } from "../../www/acme.js" // in a project of your own: "acme-client"

const { ACME_KEY: key, ACME_URL: url = "http://127.0.0.1:5000" } = process.env
const percent = Number(process.argv[2])
if (!key || !percent) throw new Error("use: ACME_KEY=acme_… node raise.js PERCENT")

const acme = new Acme(url, { key })
/** @type {string | undefined} */
let after
do {
	const page = await acme.stuff({ after })
	for (const [name, price] of page.items) {
		const { price: raised } = await acme.changeStuff(name, price * (1 + percent / 100))
		console.log(`${name}: ${price} -> ${raised}`)
	}
	after = page.next
} while (after)
