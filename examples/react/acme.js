import { Acme } from "../../www/acme.js" // in a project of your own: "acme-client"

// one client for the whole page; its refresh token is in memory, and ends with the page
export const acme = new Acme("http://127.0.0.1:5000", { cookie: false })
